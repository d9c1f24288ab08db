"""A phantom data set in DeepLesion's format: only neighboring slices tell lesions from tubes."""
