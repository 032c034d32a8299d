"""Training a codec: settings, segments of audio, losses and the loop."""
