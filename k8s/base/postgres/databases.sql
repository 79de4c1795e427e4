-- Run once, when the volume is empty. A role for each database, with the passwords of the pod's environment.
\getenv dagster_password DAGSTER_PASSWORD
CREATE ROLE dagster LOGIN PASSWORD :'dagster_password';
CREATE DATABASE dagster OWNER dagster;
\getenv mlflow_password MLFLOW_PASSWORD
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow;
REVOKE CONNECT ON DATABASE dagster, mlflow FROM PUBLIC;
