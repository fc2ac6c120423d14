"""Layers of image networks by GPU kernels of vclimb's own, and where a network gets them (`fuse.py`).

A training step of EfficientNet-lite0 spends most of its time on batch normalisation and depthwise convolutions. torch
reads and writes each batch of activations 13 times for normalisation with its activation, where 8 times are enough, and
cuDNN compiles a depthwise convolution anew for each size of a batch. docs/performance.md has the measured times.
"""
