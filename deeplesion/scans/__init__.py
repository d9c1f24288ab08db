"""CT scans off the scanner: read, put into one orientation, located in the patient."""
