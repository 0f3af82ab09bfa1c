"""What the two ONNX Runtime backends share: sessions, texts and images as inputs, batches, the dialect."""
