"""Every number of the training side: held-out people and voices, the ablation, recorded speech."""
