"""The benchmark's grid: agent x dataset x seed x fold x setting, one JSON record per cell."""
