# shellcheck shell=bash
# What the commands of docs/production/ stand on; source it in each shell: source k8s/environment.sh staging
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case "${1:-}" in
  staging | production) ENVIRONMENT=$1 ;;
  *) echo "say which environment: source k8s/environment.sh staging (or production)" >&2; return 2 ;;
esac
NAMESPACE=mlops-$ENVIRONMENT
# Each environment has a state of its own
TF_DATA_DIR=$PROJECT/k8s/terraform/.terraform/$ENVIRONMENT
export PROJECT ENVIRONMENT NAMESPACE TF_DATA_DIR

# An output of Terraform: out bucket, out -json private_subnet_ids
out() {
  if [ "$1" = -json ]; then
    terraform -chdir="$PROJECT/k8s/terraform" output -json "$2"
  else
    terraform -chdir="$PROJECT/k8s/terraform" output -raw "$1"
  fi
}

# A password that Terraform has generated: password dagster-postgresql
password() {
  aws secretsmanager get-secret-value --secret-id "$NAMESPACE/$1" --query SecretString --output text | jq -r .password
}

# SQL in Aurora, over HTTPS and by your rights in IAM: sql <<< "SELECT 1". Passwords in it are in no list of processes.
sql() {
  aws rds-data execute-statement --database postgres --sql file:///dev/stdin \
    --resource-arn "$(out aurora_arn)" --secret-arn "$(out aurora_superuser_secret_arn)"
}

# A role of Aurora with a database of its own, and the password of a secret: database dagster dagster-postgresql
database() {
  if [ "$(sql <<< "SELECT count(*) FROM pg_roles WHERE rolname = '$1'" | jq '.records[0][0].longValue')" = 0 ]; then
    sql <<< "CREATE ROLE $1 LOGIN"
    # The superuser of Aurora is none, and gives databases only to roles it is in
    sql <<< "GRANT $1 TO postgres"
  fi
  if [ "$(sql <<< "SELECT count(*) FROM pg_database WHERE datname = '$1'" | jq '.records[0][0].longValue')" = 0 ]; then
    sql <<< "CREATE DATABASE $1 OWNER $1"
    sql <<< "REVOKE CONNECT ON DATABASE $1 FROM PUBLIC"
  fi
  sql <<< "ALTER ROLE $1 PASSWORD '$(password "$2")'"
}
