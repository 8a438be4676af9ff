"""Following runs in other programs: TensorBoard, CSV, MLflow, Weights & Biases."""
