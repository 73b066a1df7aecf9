-- Application services: up to where each has been served.

CREATE TABLE app_services (
    service_id   text COLLATE "C" PRIMARY KEY,
    position     bigint NOT NULL,        -- stream position up to which it took everything
    txn_id       bigint NOT NULL,        -- of the newest transaction
    sending      bytea,                  -- the body of that transaction, until it is taken
    sending_upto bigint                  -- the position that is reached with it
);
