"""Where frames come from and where results go: sources, sinks, and the files behind them."""
