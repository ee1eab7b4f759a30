"""Networks from and for other programs: the authors' Chainer files, TorchScript, ONNX, bioimage.io."""
