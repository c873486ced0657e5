"""One process, one device: decode ahead, run the models, seal. What an engine places."""

from extract.lane.lane import Lane, LaneSpec, key_info, open_lane

__all__ = ["Lane", "LaneSpec", "key_info", "open_lane"]
