terraform {
  required_version = ">= 1.11"

  # Where the state is kept: `terraform init -backend-config=bucket=YOUR-STATE-BUCKET`.
  backend "gcs" {
    prefix = "headrace"
  }

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }
}

provider "google" {
  project        = var.project_id
  region         = var.region
  default_labels = merge({ app = "headrace" }, var.labels)
}
