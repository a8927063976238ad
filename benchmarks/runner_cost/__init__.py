"""What the runners in packages cost beside ONNX Runtime alone: ``bare.*`` are what one would write without them."""
