"""Training that a network needs before and after a cut: fine-tuning, distillation, sparsity, controls."""
