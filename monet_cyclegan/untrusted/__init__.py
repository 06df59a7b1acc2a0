"""What strangers made, looked at within bounds before anything of it is used."""
