#!/bin/bash
# primary.sh [OPTION OF POSTGRES ...]: makes the primary's cluster at the first start, and runs it. From the environment: PGDATA,
# DATABASE_PASSWORD, REPLICATION_PASSWORD.
set -euo pipefail
quoted() { printf "'%s'" "${1//\'/\'\'}"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA" "$PGDATA.new"
  initdb -D "$PGDATA.new" -U postgres --encoding=UTF8 --locale=C.UTF-8 --auth-local=peer --auth-host=scram-sha-256 --data-checksums >/dev/null
  cat >>"$PGDATA.new/pg_hba.conf" <<'HBA'
host pillarbox   pillarbox   all scram-sha-256
host replication replication all scram-sha-256
HBA
  # By standard input: no list of processes shows the passwords.
  postgres --single -D "$PGDATA.new" -c log_statement=none -c log_min_error_statement=panic postgres >/dev/null <<SQL
CREATE ROLE pillarbox LOGIN PASSWORD $(quoted "$DATABASE_PASSWORD")
CREATE ROLE replication LOGIN REPLICATION PASSWORD $(quoted "$REPLICATION_PASSWORD")
CREATE DATABASE pillarbox OWNER pillarbox
SQL
  # What was answered with 250 is on two disks: from here on a commit waits for the standby.
  cat >>"$PGDATA.new/postgresql.conf" <<'CONF'
listen_addresses = '*'
password_encryption = scram-sha-256
synchronous_standby_names = 'standby'
max_wal_size = 4GB
wal_keep_size = 1GB
CONF
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" "$@"
