"""A trained network to a bundle: ONNX graph, proof that it computes the same, golden tensors, card. Needs torch; imported by `stemzoo
export` only."""
