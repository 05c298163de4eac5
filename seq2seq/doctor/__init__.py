"""What would go wrong with a training job on this machine or in this SLURM job, before it does."""
