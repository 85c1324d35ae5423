"""What is compressed: models, data sets, training, distillation, accuracy."""
