#!/bin/bash
# standby.sh PRIMARY PORT [OPTION OF POSTGRES ...]: copies the primary at the first start, and follows it. From the environment:
# PGDATA, REPLICATION_PASSWORD.
set -euo pipefail
primary=$1 port=$2
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  printf '%s:%s:*:replication:%s\n' "$primary" "$port" "$REPLICATION_PASSWORD" >"$PGDATA.pass"
  from="host=$primary port=$port user=replication application_name=standby passfile=$PGDATA.pass"
  rm -rf "$PGDATA" "$PGDATA.new"
  until pg_basebackup -D "$PGDATA.new" -X stream -R -d "$from"; do
    rm -rf "$PGDATA.new"
    sleep 2
  done
  # Promoted, it has no standby of its own yet and must not wait for one.
  echo "synchronous_standby_names = ''" >>"$PGDATA.new/postgresql.conf"
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" "${@:3}"
