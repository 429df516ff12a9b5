"""Small languages in which a finetune's behaviour is known by construction, for minutes on a laptop."""
