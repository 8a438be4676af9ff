"""Whether synthetic images help: classifiers on the arms of the study."""
