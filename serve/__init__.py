"""The judge as a service."""
