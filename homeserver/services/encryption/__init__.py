"""What end-to-end encryption needs of a server.

    device_keys         devices publish identity keys, one-time keys and fallback keys
    queries             who has which devices and keys: for our users, and for other servers
    one_time_keys       each is claimed once
    cross_signing       a user's keys that sign devices and other users; signatures of keys
    key_backup          encrypted room keys, in versions
    dehydrated_devices  a device that receives while none is logged in (MSC3814)
    to_device           messages from device to device, in and out

Below, in the stream: `inboxes` (what waits for a device), `key_counts`, `device_lists` and
`device_list_log` (whose keys changed, for whom), `remote_device_lists` (those of other servers).

client-server-api#end-to-end-encryption, #send-to-device-messaging
"""
