"""DeepLesion: its CSV, its slices, its masks, and the data set that feeds mmdetection."""
