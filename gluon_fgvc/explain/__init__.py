"""What a network looks at, as numbers: class activation, channels, activation maximisation."""
