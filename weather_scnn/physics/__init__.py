"""The sun and humidity, in the terms of the analyses."""
