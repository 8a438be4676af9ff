"""From the results of a study to numbers: tables, contrasts, power. No pages, no figures."""
