"""Networks beside ConvNeXt."""
