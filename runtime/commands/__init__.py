"""The commands of the runtime: emotag-render and emotag-inspect."""
