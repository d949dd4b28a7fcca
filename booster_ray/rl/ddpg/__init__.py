"""Deep deterministic policy gradient in torch: finetuning of what SAC pretrained."""
