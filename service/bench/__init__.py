"""Figures with spread: ingest, loader, lookup, step."""
