"""What makes a trained policy act without the training code: policy bundles."""
