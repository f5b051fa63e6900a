"""Measurements side by side: what an artifact takes of time and memory on this machine, beside others."""
