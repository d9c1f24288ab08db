"""The textbook way to do what the library does, plainly written: what it is measured against."""
