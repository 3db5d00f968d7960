"""Descriptions of jobs, manifests and dashboards. Imports neither torch nor anything of ours."""
