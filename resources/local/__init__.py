"""Servers of this machine."""
