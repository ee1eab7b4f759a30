"""Exchange with other programs: Chainer, TorchScript, ONNX, bioimage.io."""
