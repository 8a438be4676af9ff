"""The reader of DICOM files."""
