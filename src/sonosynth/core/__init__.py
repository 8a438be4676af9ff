"""What every room builds on: devices, processes, random draws, errors, files, downloads."""
