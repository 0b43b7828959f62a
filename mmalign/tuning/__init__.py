"""Prompt tuning of a frozen bundle."""
