"""Network inputs, data preprocessor, backbones, necks and losses of the detectors."""
