"""The read side of Polymarket: market list, order books by REST and websocket, price streams."""
