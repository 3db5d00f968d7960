"""A job as a plain Slurm script, for ``sbatch``: neither TorchX nor a plug-in of Slurm's."""

from deploy.slurm.script import OPTIONS, script

__all__ = ["OPTIONS", "script"]
