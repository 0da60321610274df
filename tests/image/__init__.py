"""The proof of the image: `make test-image` builds it, runs it, and looks into its layers."""
