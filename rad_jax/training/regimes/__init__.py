"""What a memory is trained on besides true frames and uniform windows: one regime per file, used by the objective."""
