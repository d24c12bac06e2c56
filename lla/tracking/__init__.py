"""The criteria over a training: in one's own loop, in Hugging Face's Trainer, and in Lightning.

`lla.Tracker` is for one's own loop. `lla.tracking.hugging_face` and `lla.tracking.lightning` hold a
callback each; they need these packages and are imported by name.
"""
