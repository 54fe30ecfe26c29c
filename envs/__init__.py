"""Tasks as Gymnasium environments, what guards them and what films them."""
