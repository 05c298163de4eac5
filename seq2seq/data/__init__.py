"""From text to batches: corpora, prepared data, the batch plan and the loader."""
