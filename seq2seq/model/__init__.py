"""The network, in torch alone.

Axes in signatures: `batch` sentences, `beam` hypotheses of each, `source_len` and `target_len`
positions, `tokens` real target positions, `embedding`, `hidden` (decoder state), `memory` (encoder
output), `layers`, `vocab`. Sequences have time as their first axis, which is what LSTM kernels
want; the memory has it second, which is what matrix products want. A mask is True at real tokens.
"""
