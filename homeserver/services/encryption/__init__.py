"""What end-to-end encryption needs of a server: keys, signatures, backups, to-device messages."""
