"""Profiles and model files: what is measured."""
