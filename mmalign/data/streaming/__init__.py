"""Training data that are read while the model trains, in shards, without a pass over them before the first step.

The streams themselves are in `data/sources`: `record_stream.py`, `tar_stream.py`. `order.py`: which shards a process
reads, and in which order; `head.py`: the first records, on which transforms are fitted and validation is measured;
`positives.py`: ids and positives by hash; `stream_numbers.py`, `stream_batches.py`: the batches of an epoch;
`rejections.py`: records and shards that are set aside; `training_stream.py`: all of these for a run.
"""
