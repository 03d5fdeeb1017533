"""Rewards: functions of a trajectory, put together as the paper has it; judges are asked over HTTP."""
